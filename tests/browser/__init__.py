"""What a person sees: real frontends in Chromium. Not collected unless it is named (`make browser`)."""
