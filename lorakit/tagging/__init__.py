"""Tagging by the guide's method: a tagger proposes, the person decides once for the character, each
picture is checked.

`tags` edits lists of tags, `body` orders them from feet to head, `glossary` keeps the user's own
words, `taggers` runs the networks, `scores` keeps what they said, and `captions` writes the result
beside the pictures.
"""
