"""External repositories that are folders installed by Debian packages."""

load("//third_party:pkg_config.bzl", "fail_missing_package")

def _debian_tree_impl(ctx):
    root = ctx.path(ctx.attr.path)
    if not root.exists:
        fail_missing_package(ctx, "%s is missing" % ctx.attr.path, ctx.attr.debian_package)
    _link_tree(ctx, root, ctx.attr.overlays.values())
    for label, path in ctx.attr.overlays.items():
        ctx.symlink(label, path)
    ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % ctx.name, executable = False)

def _link_tree(ctx, root, replaced):
    # A folder that holds a replaced file becomes a real folder of links;
    # everything else is one link. Starlark has no recursion, hence the list.
    pending = [(root, "")]
    for _ in range(1000):
        if not pending:
            return
        folder, prefix = pending.pop()
        for entry in folder.readdir():
            path = prefix + entry.basename
            if path in replaced or path == "WORKSPACE" or path == "MODULE.bazel":
                continue
            if any([other.startswith(path + "/") for other in replaced]):
                pending.append((entry, path + "/"))
            else:
                ctx.symlink(entry, path)
    fail("@%s: too many folders under %s" % (ctx.name, root))

debian_tree = repository_rule(
    implementation = _debian_tree_impl,
    attrs = {
        "debian_package": attr.string(mandatory = True),
        "overlays": attr.label_keyed_string_dict(
            allow_files = True,
            doc = "A file of ours to the path inside the tree that it replaces.",
        ),
        "path": attr.string(mandatory = True),
    },
    configure = True,
    doc = "Links to an installed folder, with some files replaced by ours.",
    local = True,
)
