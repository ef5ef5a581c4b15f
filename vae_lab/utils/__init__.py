"""Private helpers that several wings share.

`checks`, `exit_codes`, `extras`, `files`, `tables` and `text` import neither torch nor numpy until they are called.
"""
