"""A Redis server in memory, on a clock that is handed in: the commands that the service uses, and its real Lua.

A test sends the same commands to a real server and to this one and compares the answers.
"""
