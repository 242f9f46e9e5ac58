"""External repositories of vmsg, all of them made from Debian 12 packages.

Nothing is ever downloaded. A workspace that depends on vmsg does:

    local_repository(name = "vmsg", path = "...")
    load("@vmsg//third_party:deps.bzl", "vmsg_deps")
    vmsg_deps()

A repository that the workspace has defined before under the same name is kept.
`scripts/setup` installs the packages; `third_party/README.md` lists them.
"""

load("//third_party:local.bzl", "debian_tree")
load("//third_party:pkg_config.bzl", "pkg_config_repository")

_RULES = "/usr/share/bazel/rules/"
_TOOLS = "/usr/share/bazel/tools/"

# To load the 58 shared libraries of gRPC takes more than half of the time from exec
# to the first line of a guest that needs no KVM. The three are linked one way, all of them:
# a program with Abseil's archives and a gRPC that loads Abseil has two Abseils.
_STATIC = True

# Our label to the pkg-config module; the labels are those of Abseil's own build.
_ABSL = {
    "absl/algorithm:container": ["absl_algorithm_container"],
    "absl/base:core_headers": ["absl_core_headers"],
    "absl/cleanup:cleanup": ["absl_cleanup"],
    "absl/container:btree": ["absl_btree"],
    "absl/container:fixed_array": ["absl_fixed_array"],
    "absl/container:flat_hash_map": ["absl_flat_hash_map"],
    "absl/container:flat_hash_set": ["absl_flat_hash_set"],
    "absl/container:inlined_vector": ["absl_inlined_vector"],
    "absl/flags:flag": ["absl_flags"],
    "absl/flags:parse": ["absl_flags_parse"],
    "absl/flags:usage": ["absl_flags_usage"],
    "absl/functional:any_invocable": ["absl_any_invocable"],
    "absl/functional:function_ref": ["absl_function_ref"],
    "absl/memory:memory": ["absl_memory"],
    "absl/numeric:bits": ["absl_bits"],
    "absl/random:random": ["absl_random_random"],
    "absl/status:status": ["absl_status"],
    "absl/status:statusor": ["absl_statusor"],
    "absl/strings:str_format": ["absl_str_format"],
    "absl/strings:strings": ["absl_strings"],
    "absl/synchronization:synchronization": ["absl_synchronization"],
    "absl/time:time": ["absl_time"],
    "absl/types:span": ["absl_span"],
}

def _maybe(rule, name, **kwargs):
    if not native.existing_rule(name):
        rule(name = name, **kwargs)

def _bazel_rules():
    _maybe(
        debian_tree,
        name = "bazel_skylib",
        debian_package = "bazel-skylib",
        path = _TOOLS + "skylib",
    )
    _maybe(
        debian_tree,
        name = "platforms",
        debian_package = "bazel-platforms",
        path = _TOOLS + "platforms",
    )
    _maybe(
        debian_tree,
        name = "rules_java",  # Bazel registers Java toolchains in every build.
        debian_package = "bazel-rules-java",
        path = _RULES + "java",
    )
    _maybe(
        debian_tree,
        name = "rules_proto",  # Loaded by Bazel's own @bazel_tools.
        debian_package = "bazel-rules-proto",
        path = _RULES + "proto",
    )
    _maybe(
        debian_tree,
        name = "rules_cc",
        debian_package = "bazel-rules-cc",
        overlays = {
            "@vmsg//third_party/rules_cc:cc_flags_supplier.bzl": "cc/private/rules_impl/cc_flags_supplier.bzl",
            "@vmsg//third_party/rules_cc:compiler_flag.bzl": "cc/private/rules_impl/compiler_flag.bzl",
        },
        path = _RULES + "cc",
    )

    # Every test target refers to it, also when no coverage is collected.
    _maybe(
        native.new_local_repository,
        name = "remote_coverage_tools",
        build_file = "@vmsg//third_party/remote_coverage_tools:remote_coverage_tools.BUILD",
        path = "/usr/share/bazel/platforms",
    )

def _libraries():
    _maybe(
        pkg_config_repository,
        name = "com_google_absl",
        debian_package = "libabsl-dev",
        libraries = _ABSL,
        static = _STATIC,
    )
    _maybe(
        pkg_config_repository,
        name = "com_google_googletest",
        # gtest_main of the original has GoogleMock in it; keep that.
        debian_package = "libgtest-dev libgmock-dev",
        libraries = {
            ":gtest": ["gmock", "gtest"],
            ":gtest_main": ["gmock_main", "gmock", "gtest"],
        },
    )
    _maybe(
        pkg_config_repository,
        name = "com_google_protobuf",
        debian_package = "libprotobuf-dev protobuf-compiler",
        libraries = {":protobuf": ["protobuf"]},
        required_files = ["/usr/include/google/protobuf/any.proto"],
        static = _STATIC,
        tools = {"protoc": "/usr/bin/protoc"},
    )
    _maybe(
        pkg_config_repository,
        name = "com_github_grpc_grpc",
        debian_package = "libgrpc++-dev libgrpc-dev protobuf-compiler-grpc",
        libraries = {
            ":grpc++": ["grpc++", "protobuf"],
            ":grpc++_reflection": ["grpc++", "protobuf"],
        },
        static = _STATIC,
        tools = {"grpc_cpp_plugin": "/usr/bin/grpc_cpp_plugin"},
        # No .pc file knows the reflection library.
        without_module = {":grpc++_reflection": ["-lgrpc++_reflection"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_github_google_benchmark",
        debian_package = "libbenchmark-dev",
        libraries = {":benchmark": ["benchmark"]},
        # No .pc file knows the library with main().
        without_module = {":benchmark_main": ["-lbenchmark_main", "-lbenchmark", "-pthread"]},
    )
    _maybe(
        pkg_config_repository,
        name = "cli11",
        debian_package = "libcli11-dev",
        libraries = {":cli11": ["CLI11"]},
    )
    _maybe(
        pkg_config_repository,
        name = "boost",
        debian_package = "libboost-dev",
        required_files = ["/usr/include/boost/lockfree/spsc_queue.hpp"],
        # Headers only, and no .pc file.
        without_module = {":lockfree": []},
    )

def vmsg_deps():
    """Defines every external repository that vmsg's targets refer to."""
    _bazel_rules()
    _libraries()
