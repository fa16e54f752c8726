"""The networks being searched: one operation table, and what is made from it."""
