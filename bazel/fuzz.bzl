"""Fuzz targets that are also ordinary tests."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def vmsg_fuzz_test(name, srcs, corpus, deps = [], tags = [], **kwargs):
    """A fuzz target: LLVMFuzzerTestOneInput and its corpus.

    As an ordinary test it runs over every file of the corpus, then over a fixed
    number of pseudo-random mutations of them that are the same in every run.
    With --config=fuzz it is a libFuzzer program; `scripts/fuzz` builds and runs
    those and keeps what they find.

    Args:
      name: name of the test, by custom `foo_fuzz_test`.
      srcs: C++ files that define LLVMFuzzerTestOneInput.
      corpus: folder of this package with the inputs, by custom `foo_corpus`.
        One input a file; at least one file.
      deps: as usual.
      tags: as usual; `fuzz` is added.
      **kwargs: given to cc_test.
    """
    inputs = native.glob([corpus + "/**"], allow_empty = False)
    folder = native.package_name() + "/" + corpus
    cc_test(
        name = name,
        srcs = srcs,
        args = select({
            # Ends by itself also when started with `bazel test`.
            "@vmsg//bazel:with_libfuzzer": ["-max_total_time=5", folder],
            "//conditions:default": [folder],
        }),
        data = inputs,
        linkopts = select({
            "@vmsg//bazel:with_libfuzzer": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        tags = tags + ["fuzz"],
        deps = deps + select({
            "@vmsg//bazel:with_libfuzzer": [],
            "//conditions:default": ["@vmsg//bazel:fuzz_corpus_main"],
        }),
        **kwargs
    )
