"""What every test may ask for."""

from hypothesis import HealthCheck, settings

from tests.emulator import firestore_emulator

__all__ = ["firestore_emulator"]

# How fast a machine draws its first examples (it builds tables of characters then) says nothing about the code.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
