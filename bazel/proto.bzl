"""C++ code from .proto files, made by Debian's protoc and gRPC plugin.

Import paths in .proto files and include paths of the generated headers start at
the root of the workspace that holds the file:
`import "proto/vmsg/x.proto"` and `#include "proto/vmsg/x.pb.h"`.
Google's well-known types (google/protobuf/*.proto) are always found.
"""

load("@rules_cc//cc:defs.bzl", "cc_library")

_SUFFIX = "_codegen"

# Generated code is not ours to clean up.
_COPTS = ["-w"]

_ProtoSourcesInfo = provider(
    doc = "The .proto files that an import may reach.",
    fields = {
        "roots": "depset of folders that import paths start at",
        "sources": "depset of .proto files",
    },
)

def _import_root(file):
    parts = [part for part in [file.root.path, file.owner.workspace_root] if part]
    return "/".join(parts) if parts else "."

def _codegen_impl(ctx):
    sources = depset(
        ctx.files.srcs,
        transitive = [dep[_ProtoSourcesInfo].sources for dep in ctx.attr.deps],
    )
    roots = depset(
        [_import_root(file) for file in ctx.files.srcs],
        transitive = [dep[_ProtoSourcesInfo].roots for dep in ctx.attr.deps],
    )

    outputs = []
    for source in ctx.files.srcs:
        if source.owner.package != ctx.label.package:
            fail("%s is in another package" % source.short_path)
        stem = source.owner.name[:-len(".proto")]
        for suffix in ctx.attr.suffixes:
            outputs.append(ctx.actions.declare_file(stem + suffix))

    out_root = ctx.bin_dir.path
    if ctx.label.workspace_root:
        out_root += "/" + ctx.label.workspace_root
    args = ctx.actions.args()
    args.add_all(roots, format_each = "-I%s")
    args.add("-I/usr/include")
    tools = []
    if ctx.executable.plugin:
        args.add(ctx.executable.plugin, format = "--plugin=protoc-gen-plugin=%s")
        args.add(out_root, format = "--plugin_out=%s")
        tools.append(ctx.executable.plugin)
    else:
        args.add(out_root, format = "--cpp_out=%s")
    args.add_all(ctx.files.srcs)
    ctx.actions.run(
        arguments = [args],
        executable = ctx.executable._protoc,
        inputs = sources,
        mnemonic = "ProtocCpp",
        outputs = outputs,
        progress_message = "Generating C++ for %s" % ctx.label,
        tools = tools,
    )
    return [
        DefaultInfo(files = depset(outputs)),
        OutputGroupInfo(
            headers = depset([file for file in outputs if file.extension == "h"]),
            sources = depset([file for file in outputs if file.extension == "cc"]),
        ),
        _ProtoSourcesInfo(roots = roots, sources = sources),
    ]

_codegen = rule(
    implementation = _codegen_impl,
    attrs = {
        "deps": attr.label_list(providers = [_ProtoSourcesInfo]),
        "plugin": attr.label(allow_single_file = True, cfg = "exec", executable = True),
        "srcs": attr.label_list(allow_empty = False, allow_files = [".proto"]),
        "suffixes": attr.string_list(mandatory = True),
        "_protoc": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "@com_google_protobuf//:protoc",
            executable = True,
        ),
    },
)

def _codegen_label(dep):
    if ":" in dep:
        return dep + _SUFFIX
    return "%s:%s%s" % (dep, dep.rpartition("/")[2], _SUFFIX)

def _library(name, srcs, deps, cc_deps, suffixes, visibility, tags, plugin = None, **kwargs):
    _codegen(
        name = name + _SUFFIX,
        srcs = srcs,
        plugin = plugin,
        suffixes = suffixes,
        tags = tags,
        visibility = visibility,
        deps = [_codegen_label(dep) for dep in deps],
    )
    for group in ["headers", "sources"]:
        native.filegroup(
            name = "%s%s_%s" % (name, _SUFFIX, group),
            srcs = [":" + name + _SUFFIX],
            output_group = group,
            tags = tags,
        )
    cc_library(
        name = name,
        srcs = [":%s%s_sources" % (name, _SUFFIX)],
        hdrs = [":%s%s_headers" % (name, _SUFFIX)],
        copts = _COPTS,
        tags = tags,
        visibility = visibility,
        deps = deps + cc_deps,
        **kwargs
    )

def vmsg_cc_proto_library(name, srcs, deps = [], visibility = None, tags = [], **kwargs):
    """The messages of .proto files as a C++ library (x.pb.h).

    Args:
      name: name of the library.
      srcs: .proto files of this package.
      deps: other vmsg_cc_proto_library targets whose files are imported.
      visibility: as usual.
      tags: as usual.
      **kwargs: given to cc_library.
    """
    _library(
        name = name,
        srcs = srcs,
        cc_deps = ["@com_google_protobuf//:protobuf"],
        suffixes = [".pb.h", ".pb.cc"],
        tags = tags,
        visibility = visibility,
        deps = deps,
        **kwargs
    )

def vmsg_cc_grpc_library(name, srcs, deps, visibility = None, tags = [], **kwargs):
    """The services of .proto files as a C++ library (x.grpc.pb.h).

    Debian's gRPC is not built for ThreadSanitizer, so the library and whatever
    links it carry the tag `no_tsan`.

    Args:
      name: name of the library.
      srcs: .proto files of this package that have services.
      deps: the vmsg_cc_proto_library targets of srcs and of what they import.
      visibility: as usual.
      tags: as usual; `no_tsan` is added.
      **kwargs: given to cc_library.
    """
    _library(
        name = name,
        srcs = srcs,
        cc_deps = ["@com_github_grpc_grpc//:grpc++"],
        plugin = "@com_github_grpc_grpc//:grpc_cpp_plugin",
        suffixes = [".grpc.pb.h", ".grpc.pb.cc"],
        tags = tags + ["no_tsan"],
        visibility = visibility,
        deps = deps,
        **kwargs
    )
