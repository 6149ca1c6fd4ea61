import pytest

pytest.register_assert_rewrite("casket.testing")
