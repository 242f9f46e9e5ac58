"""External repositories made of libraries that Debian packages installed.

`pkg_config_repository` asks pkg-config for the compiler and linker flags of
installed libraries and writes one `cc_library` per library, under the label
that the library's own Bazel build uses. So BUILD files depend on
`@com_google_absl//absl/strings` whether Abseil comes from Debian or from source.
"""

_SETUP_HINT = "Install it with scripts/setup, or run: apt-get install %s"

_BUILD_HEADER = """\
load("@rules_cc//cc:defs.bzl", "cc_library")

package(default_visibility = ["//visibility:public"])
"""

_LIBRARY = """
cc_library(
    name = "{name}",
    defines = {defines},
    includes = {includes},
    linkopts = {linkopts},
)
"""

_ALIAS = """
alias(
    name = "{name}",
    actual = "{actual}",
)
"""

def _fail(ctx, what, debian_package):
    fail("@%s: %s. %s" % (ctx.name, what, _SETUP_HINT % debian_package))

def fail_missing_package(ctx, what, debian_package):
    """Stops the fetch of a repository with the Debian package to install.

    Args:
      ctx: context of the repository rule.
      what: what was looked for and not found.
      debian_package: name of the Debian package that has it.
    """
    _fail(ctx, what, debian_package)

def _last_of_each(flags):
    # pkg-config repeats libraries; the last mention keeps the link order.
    seen = {}
    kept = []
    for flag in reversed(flags):
        if flag not in seen:
            seen[flag] = True
            kept.append(flag)
    return reversed(kept)

def _pkg_config(ctx, modules):
    tool = ctx.which("pkg-config")
    if not tool:
        _fail(ctx, "pkg-config is not installed", "pkg-config")
    result = ctx.execute([tool, "--cflags", "--libs"] + modules)
    if result.return_code != 0:
        _fail(
            ctx,
            "pkg-config does not know %s:\n%s" % (" ".join(modules), result.stderr.strip()),
            ctx.attr.debian_package,
        )
    return [flag for flag in result.stdout.strip().split(" ") if flag]

def _flags(ctx, modules, extra_linkopts):
    defines = []
    linkopts = []
    for flag in (_pkg_config(ctx, modules) if modules else []):
        if flag.startswith("-D"):
            defines.append(flag[2:])
        elif flag == "-pthread" or flag.startswith("-l") or flag.startswith("-L"):
            linkopts.append(flag)
        elif flag.startswith("-Wl,") or flag.startswith("-I"):
            # -Wl: only pkg-config's own --push-state around -latomic, which
            # as-needed below covers. -I: /usr/include is searched anyway.
            if flag.startswith("-I") and not flag.startswith("-I/usr/include"):
                fail("@%s: headers outside /usr/include: %s" % (ctx.name, flag))
        elif not flag.startswith("-std="):
            fail("@%s: unexpected flag from pkg-config: %s" % (ctx.name, flag))

    # The list names every library that any header might need; link only those
    # that a binary does need.
    linkopts = _last_of_each(linkopts)
    if linkopts:
        linkopts = ["-Wl,--push-state,--as-needed"] + linkopts + ["-Wl,--pop-state"]
    return defines, linkopts + extra_linkopts

def _pkg_config_repository_impl(ctx):
    for header in ctx.attr.required_files:
        if not ctx.path(header).exists:
            _fail(ctx, "%s is missing" % header, ctx.attr.debian_package)
    for name, target in ctx.attr.tools.items():
        if not ctx.path(target).exists:
            _fail(ctx, "%s is missing" % target, ctx.attr.debian_package)

    packages = {"": [_BUILD_HEADER]}
    labels = {}
    for label in ctx.attr.libraries.keys() + ctx.attr.extra_linkopts.keys():
        labels[label] = True
    for label in labels:
        package, _, name = label.rpartition(":")
        modules = ctx.attr.libraries.get(label, [])
        defines, linkopts = _flags(ctx, modules, ctx.attr.extra_linkopts.get(label, []))
        packages.setdefault(package, [_BUILD_HEADER]).append(_LIBRARY.format(
            name = name,
            defines = repr(defines),
            includes = "[]",
            linkopts = repr(linkopts),
        ))
    for label, actual in ctx.attr.aliases.items():
        package, _, name = label.rpartition(":")
        packages.setdefault(package, [_BUILD_HEADER]).append(
            _ALIAS.format(name = name, actual = actual),
        )
    if ctx.attr.tools:
        packages[""].append("\nexports_files(%s)\n" % repr(sorted(ctx.attr.tools.keys())))
        for name, target in ctx.attr.tools.items():
            ctx.symlink(target, name)
    for package, texts in packages.items():
        path = package + "/BUILD.bazel" if package else "BUILD.bazel"
        ctx.file(path, "".join(texts), executable = False)

pkg_config_repository = repository_rule(
    implementation = _pkg_config_repository_impl,
    attrs = {
        "aliases": attr.string_dict(
            doc = "'package:name' to the label that it stands for.",
        ),
        "debian_package": attr.string(
            doc = "What to install when something is missing.",
            mandatory = True,
        ),
        "extra_linkopts": attr.string_list_dict(
            doc = "'package:name' to linker flags that no .pc file has. A label " +
                  "that is not in `libraries` becomes a library of these alone.",
        ),
        "libraries": attr.string_list_dict(
            doc = "'package:name' (':name' in the root package) to pkg-config modules.",
        ),
        "required_files": attr.string_list(
            doc = "Absolute paths whose absence means that the package is missing.",
        ),
        "tools": attr.string_dict(
            doc = "Name in the root package to the absolute path of a program.",
        ),
    },
    configure = True,
    doc = "Libraries installed by Debian, as cc_library targets.",
    environ = ["PATH", "PKG_CONFIG_PATH"],
    local = True,
)
