"""Runs clang-tidy over the C++ sources of targets, tests left out, as actions.

    bazel build --config=clang_tidy //...
"""

def _flags(ctx, target):
    context = target[CcInfo].compilation_context
    flags = ["-D" + define for define in context.defines.to_list()]
    for folder in context.quote_includes.to_list():
        flags += ["-iquote", folder]
    for folder in context.includes.to_list() + context.system_includes.to_list():
        flags += ["-isystem", folder]
    for flag in getattr(ctx.rule.attr, "copts", []):
        flags.append(flag)
    for define in getattr(ctx.rule.attr, "local_defines", []):
        flags.append("-D" + define)
    return flags

def _clang_tidy_impl(target, ctx):
    sources = [
        file
        for source in getattr(ctx.rule.attr, "srcs", [])
        for file in source.files.to_list()
        # Generated code is not ours to clean up.
        if file.extension == "cc" and file.is_source
    ]
    # Test macros cost clang-tidy more time than all the rest, and most of what
    # it says there is about the macros.
    is_test = ctx.rule.kind == "cc_test" or getattr(ctx.rule.attr, "testonly", False)
    if is_test or CcInfo not in target or not sources or target.label.workspace_root:
        return [OutputGroupInfo(clang_tidy = depset())]
    flags = _flags(ctx, target) + ctx.fragments.cpp.cxxopts
    outputs = []
    for source in sources:
        output = ctx.actions.declare_file("%s.%s.clang_tidy" % (target.label.name, source.basename))
        outputs.append(output)
        ctx.actions.run_shell(
            # It writes to stdout, and says how many warnings it hid to stderr.
            arguments = [output.path, source.path] + flags,
            command = """
                output=$1 source=$2; shift 2
                if ! clang-tidy-14 --quiet "$source" -- -x c++ "$@" \
                    >"$output" 2>"$output.err"; then
                  cat "$output" "$output.err" >&2; exit 1
                fi""",
            inputs = depset(
                [source] + ctx.files._config,
                transitive = [
                    target[CcInfo].compilation_context.headers,
                    depset(getattr(ctx.rule.files, "srcs", [])),
                ],
            ),
            mnemonic = "ClangTidy",
            outputs = [output],
            progress_message = "clang-tidy %s" % source.short_path,
            use_default_shell_env = True,
        )
    return [OutputGroupInfo(clang_tidy = depset(outputs))]

clang_tidy_aspect = aspect(
    implementation = _clang_tidy_impl,
    attrs = {
        "_config": attr.label(allow_files = True, default = "//:.clang-tidy"),
    },
    fragments = ["cpp"],
)
