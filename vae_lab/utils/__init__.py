"""Private helpers that several wings share. None of them imports torch or numpy until it is called."""
