"""Signers for tests."""

from worker.net.signing import Signer, signer_from


def signer_of(*secrets: str) -> Signer:
    """One that signs with these secrets, as the settings would bring them."""
    environ = {f"SECRET_{number}": secret for number, secret in enumerate(secrets)}
    return signer_from(variables=list(environ), environ=environ)
