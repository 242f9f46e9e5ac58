#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

// By pointer: the groups are in other files, and on bare metal nobody would run
// a constructor that copies them.
struct Row {
  const char* name;
  const std::span<const Case>* cases;
  Scope scope = Scope::kFifo;
  Layout layout = Layout::kAny;
};
constexpr Row kRows[] = {
    {"registers", &kRegisterCases},
    {"msix", &kMsixCases},
    {"config", &kConfigCases, Scope::kFunction},
    {"bars", &kBarCases, Scope::kFunction},
    {"window", &kWindowCases},
    {"spsc", &kSpscCases, Scope::kFifo, Layout::kSpsc},
    {"shmem", &kShmemCases, Scope::kFifo, Layout::kShmem},
    {"shmem-header", &kShmemHeaderCases, Scope::kFifo, Layout::kShmem},
    {"header", &kHeaderCases},
    {"message", &kMessageCases},
    {"status", &kStatusCases},
    {"features", &kFeatureCases},
    {"queue", &kQueueCases},
    {"ring", &kRingCases},
    {"descriptor", &kDescriptorCases},
    {"flood", &kFloodCases},
    {"race-queue", &kRaceCases},
    {"race-fifo", &kFifoRaceCases},
    {"race-spsc", &kSpscRaceCases, Scope::kFifo, Layout::kSpsc},
    {"race-shmem", &kShmemRaceCases, Scope::kFifo, Layout::kShmem},
    {"race-function", &kFunctionRaceCases, Scope::kFunction},
};

}  // namespace

uint32_t CatalogueGroups() {
  return static_cast<uint32_t>(sizeof(kRows) / sizeof(kRows[0]));
}

Group CatalogueGroup(uint32_t index) {
  const Row& row = kRows[index];
  return {row.name, *row.cases, row.scope, row.layout};
}

}  // namespace vmsg::guest
