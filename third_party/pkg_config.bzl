"""External repositories made of libraries that Debian packages installed.

`pkg_config_repository` asks pkg-config for the compiler and linker flags of
installed libraries and writes one `cc_library` per library, under the label
that the library's own Bazel build uses. So BUILD files depend on
`@com_google_absl//absl/strings` whether Abseil comes from Debian or from source.
"""

# Parts of glibc and of the compiler, which stay shared in every program.
_SYSTEM_LIBRARIES = ["-latomic", "-ldl", "-lm", "-lpthread", "-lrt", "-pthread"]

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
    return list(reversed(kept))

def _pkg_config(ctx, modules):
    tool = ctx.which("pkg-config")
    if not tool:
        _fail(ctx, "pkg-config is not installed", "pkg-config")
    command = [tool, "--cflags", "--libs"] + (["--static"] if ctx.attr.static else [])
    result = ctx.execute(command + modules)
    if result.return_code != 0:
        _fail(
            ctx,
            "pkg-config does not know %s:\n%s" % (" ".join(modules), result.stderr.strip()),
            ctx.attr.debian_package,
        )
    return [flag for flag in result.stdout.strip().split(" ") if flag]

def _link(libraries, static):
    if not libraries:
        return []

    # The list names every library that any header might need; link only those
    # that a binary does need.
    before = "-Wl,--push-state,--as-needed"
    after = "-Wl,--pop-state"
    if not static:
        return [before] + libraries + [after]

    # A group, for archives refer to one another in circles.
    archives = [flag for flag in libraries if flag not in _SYSTEM_LIBRARIES]
    system = [flag for flag in libraries if flag in _SYSTEM_LIBRARIES]
    return (
        [before, "-Wl,-Bstatic,--start-group"] + archives +
        ["-Wl,--end-group,-Bdynamic"] + system + [after]
    )

def _flags(ctx, modules, without_module):
    defines = []
    libraries = list(without_module)
    for flag in (_pkg_config(ctx, modules) if modules else []):
        if flag.startswith("-D"):
            defines.append(flag[2:])
        elif flag == "-pthread" or flag.startswith("-l"):
            libraries.append(flag)
        elif flag.startswith("-L"):
            fail("@%s: libraries outside the linker's folders: %s" % (ctx.name, flag))
        elif flag.startswith("-Wl,") or flag.startswith("-I"):
            # -Wl: only pkg-config's own --push-state around -latomic, which
            # as-needed in _link covers. -I: /usr/include is searched anyway.
            if flag.startswith("-I") and not flag.startswith("-I/usr/include"):
                fail("@%s: headers outside /usr/include: %s" % (ctx.name, flag))
        elif not flag.startswith("-std="):
            fail("@%s: unexpected flag from pkg-config: %s" % (ctx.name, flag))
    return defines, _link(_last_of_each(libraries), ctx.attr.static)

def _pkg_config_repository_impl(ctx):
    for header in ctx.attr.required_files:
        if not ctx.path(header).exists:
            _fail(ctx, "%s is missing" % header, ctx.attr.debian_package)
    for name, target in ctx.attr.tools.items():
        if not ctx.path(target).exists:
            _fail(ctx, "%s is missing" % target, ctx.attr.debian_package)

    packages = {"": [_BUILD_HEADER]}
    labels = {}
    for label in ctx.attr.libraries.keys() + ctx.attr.without_module.keys():
        labels[label] = True
    for label in labels:
        package, _, name = label.rpartition(":")
        modules = ctx.attr.libraries.get(label, [])
        defines, linkopts = _flags(ctx, modules, ctx.attr.without_module.get(label, []))
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
        "libraries": attr.string_list_dict(
            doc = "'package:name' (':name' in the root package) to pkg-config modules.",
        ),
        "required_files": attr.string_list(
            doc = "Absolute paths whose absence means that the package is missing.",
        ),
        "static": attr.bool(
            doc = "Link the archives, with all that they need but glibc and the " +
                  "compiler's libraries, and not the shared libraries.",
        ),
        "tools": attr.string_dict(
            doc = "Name in the root package to the absolute path of a program.",
        ),
        "without_module": attr.string_list_dict(
            doc = "'package:name' to -l flags of libraries that no .pc file has; they " +
                  "come before those of `libraries`. A label that is not in " +
                  "`libraries` becomes a library of these alone.",
        ),
    },
    configure = True,
    doc = "Libraries installed by Debian, as cc_library targets.",
    environ = ["PATH", "PKG_CONFIG_PATH"],
    local = True,
)
