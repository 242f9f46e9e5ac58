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
  Recovery degraded = Recovery::kDeviceReset;
};
// What a DEGRADED victim may take besides a reset of the device: shmem-v1 is
// joined again; spsc has no such way out of BROKEN; bus mastering that goes off
// takes all devices of the function with it.
constexpr Row kRows[] = {
    {"registers", &kRegisterCases},
    {"msix", &kMsixCases},
    {"config", &kConfigCases, Scope::kFunction, Layout::kAny,
     Recovery::kFunction},
    {"bars", &kBarCases, Scope::kFunction, Layout::kAny, Recovery::kFunction},
    {"window", &kWindowCases},
    {"spsc", &kSpscCases, Scope::kFifo, Layout::kSpsc, Recovery::kOperator},
    {"shmem", &kShmemCases, Scope::kFifo, Layout::kShmem, Recovery::kHandshake},
    {"shmem-header", &kShmemHeaderCases, Scope::kFifo, Layout::kShmem},
    {"header", &kHeaderCases},
    {"message", &kMessageCases},
    {"config-message", &kConfigMessageCases},
    {"status", &kStatusCases},
    {"features", &kFeatureCases},
    {"queue", &kQueueCases},
    {"ring", &kRingCases},
    {"descriptor", &kDescriptorCases},
    {"packed", &kPackedCases},
    {"packed-chain", &kPackedChainCases},
    {"events", &kEventCases},
    {"flood", &kFloodCases},
    {"race-queue", &kRaceCases},
    {"race-packed", &kPackedRaceCases},
    {"race-fifo", &kFifoRaceCases},
    {"race-spsc", &kSpscRaceCases, Scope::kFifo, Layout::kSpsc,
     Recovery::kOperator},
    {"race-shmem", &kShmemRaceCases, Scope::kFifo, Layout::kShmem,
     Recovery::kHandshake},
    {"race-function", &kFunctionRaceCases, Scope::kFunction, Layout::kAny,
     Recovery::kFunction},
};

}  // namespace

uint32_t CatalogueGroups() {
  return static_cast<uint32_t>(sizeof(kRows) / sizeof(kRows[0]));
}

Group CatalogueGroup(uint32_t index) {
  const Row& row = kRows[index];
  return {row.name, *row.cases, row.scope, row.layout, row.degraded};
}

}  // namespace vmsg::guest
