"""Cleaning a dataset before it is tagged. Nothing here deletes a picture: what goes, goes to
`removed/`.
"""
