"""The pages about money: `/admin/billing` over all Accounts, `/account/billing` over one's own, by the same functions.

`place.py` says which of both a request is for, and refuses what is not the viewer's.
"""
