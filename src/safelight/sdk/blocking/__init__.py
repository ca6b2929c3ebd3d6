"""The waiting client, made from `aio` by `python tests/unit/sdk/test_sdk_twins.py`: change that one."""
