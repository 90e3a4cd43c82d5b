"""What all tests share: hypothesis draws the same examples in every run, and has the time a busy machine needs."""

from hypothesis import HealthCheck, settings

settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")
