"""Bare-metal guests: static ELF64 images without an operating system."""

# The compiler is called directly, so that no sanitizer, optimisation mode or
# other flag of a configuration gets into the image.
_COMPILE_FLAGS = [
    "-std=c++20",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Werror",
    "-Wno-missing-field-initializers",
    "-I.",
    "-ffreestanding",
    # Interrupt handlers come on the running stack.
    "-mno-red-zone",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-stack-protector",
    "-fno-threadsafe-statics",
    "-fno-pic",
    "-fno-pie",
    "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables",
    # Nothing newer: an emulated processor runs it too.
    "-march=x86-64",
    "-mcmodel=small",
]

_LINK_FLAGS = [
    "-nostdlib",
    "-static",
    "-Wl,-T,$(location //guest/payload:bare_metal/payload.ld)",
    "-Wl,--build-id=none",
    "-Wl,-z,max-page-size=4096",
    "-Wl,--fatal-warnings",
]

def bare_metal_image(name, srcs, hdrs, visibility = None):
    """An image NAME.elf, and NAME_image_test, which looks at it.

    The parts that all images have are in //guest/payload:bare_metal_srcs.

    Args:
      name: of the image.
      srcs: its own sources and filegroups; one defines RunGuest(), see
        bare_metal/run_guest.h.
      hdrs: headers that they include.
      visibility: of the image.
    """
    all_srcs = name + "_all_srcs"
    native.filegroup(
        name = all_srcs,
        srcs = srcs + ["//guest/payload:bare_metal_srcs"],
        visibility = ["//visibility:private"],
    )

    native.genrule(
        name = name,
        srcs = hdrs + [
            ":" + all_srcs,
            "//guest/payload:bare_metal/payload.ld",
            "//guest/payload:bare_metal_hdrs",
        ],
        outs = [name + ".elf"],
        # Interrupt handlers save no vector registers. Clang's
        # -mgeneral-regs-only can't read libstdc++'s headers; the image test
        # looks at the result.
        cmd = "case $$($(CC) --version) in\n" +
              "  *clang*) registers='-mno-sse -mno-mmx' ;;\n" +
              "  *) registers=-mgeneral-regs-only ;;\n" +
              "esac\n" +
              "objects=\n" +
              "for source in $(locations :%s); do\n" % all_srcs +
              "  object=$(RULEDIR)/%s.$$(echo $$source | tr / _).o\n" % name +
              "  case $$source in\n" +
              "    *.S) $(CC) -c $$source -o $$object ;;\n" +
              "    *) $(CC) $$registers " + " ".join(_COMPILE_FLAGS) +
              " -c $$source -o $$object ;;\n" +
              "  esac || exit 1\n" +
              "  objects=\"$$objects $$object\"\n" +
              "done\n" +
              "$(CC) " + " ".join(_LINK_FLAGS) + " -o $@ $$objects",
        toolchains = ["@bazel_tools//tools/cpp:current_cc_toolchain"],
        visibility = visibility,
    )

    native.sh_test(
        name = name + "_image_test",
        size = "small",
        srcs = ["//guest/payload:payload_image_test.sh"],
        args = ["$(location :%s)" % name],
        data = [":" + name],
        visibility = ["//visibility:private"],
    )
