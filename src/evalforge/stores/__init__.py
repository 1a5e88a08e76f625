"""Where captures are kept: SQLite embedded, Firestore for a team. Both pass tests/contract/test_store_contract.py.

Neither is imported from here, so that whoever uses SQLite never pays for Google's client.
"""
