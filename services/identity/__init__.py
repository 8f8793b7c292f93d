"""Accounts, users and policies; sessions and API keys; quotas; whose a resource is."""
