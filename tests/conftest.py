"""What all tests share: hypothesis draws the same examples in every run, and has the time a busy machine needs.

`HYPOTHESIS_PROFILE=search` draws others in each run.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("search"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
