"""MCP servers that the tests start: well-behaved ones of the SDK (`sdk`), and ones that are not (`raw`, `http`)."""
