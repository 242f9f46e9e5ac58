"""Replaces the file of this name in Debian's rules_cc.

The original loads `use_cpp_toolchain`, which Bazel 4.2.3 does not have. The rule
is only reached by BUILD files that ask for CC_FLAGS, and none here does.
"""

def cc_flags_supplier(name, **_kwargs):
    fail("cc_flags_supplier '%s': not supported with Bazel 4.2.3" % name)
