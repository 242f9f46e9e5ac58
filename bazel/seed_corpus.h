// Inputs of fuzz targets that a program makes, so that a change of an input's
// format can't leave the corpus behind.

#ifndef VMSG_BAZEL_SEED_CORPUS_H_
#define VMSG_BAZEL_SEED_CORPUS_H_

#include <map>
#include <string>

namespace vmsg::fuzz {

// Bytes by the path of their file below a folder.
using Seeds = std::map<std::string, std::string>;

// The main() of a test which makes seeds. As a test it compares them with the
// files below `folder`, a path from the top of the workspace. With --write,
// under `bazel run`, it writes these files into the source tree. Other files
// there are left alone. Returns the exit code; errors go to stderr.
int SeedTestMain(int argc, char** argv, const std::string& folder,
                 const Seeds& seeds);

}  // namespace vmsg::fuzz

#endif  // VMSG_BAZEL_SEED_CORPUS_H_
