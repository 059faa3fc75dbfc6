"""Tools: functions, servers, what ships; how calls of them are made and shown."""
