// The catalogue: every case, by group.

#ifndef VMSG_GUEST_ADVERSARY_CATALOGUE_H_
#define VMSG_GUEST_ADVERSARY_CATALOGUE_H_

#include <cstdint>
#include <span>

#include "guest/adversary/case.h"

namespace vmsg::guest {

// cases_registers.cc
extern const std::span<const Case> kRegisterCases;
// cases_pci.cc
extern const std::span<const Case> kMsixCases;
extern const std::span<const Case> kConfigCases;
extern const std::span<const Case> kBarCases;
// cases_fifo.cc
extern const std::span<const Case> kSpscCases;
extern const std::span<const Case> kShmemCases;
extern const std::span<const Case> kShmemHeaderCases;
extern const std::span<const Case> kWindowCases;
// cases_header.cc
extern const std::span<const Case> kHeaderCases;
// cases_messages.cc
extern const std::span<const Case> kMessageCases;
extern const std::span<const Case> kConfigMessageCases;
// cases_status.cc
extern const std::span<const Case> kStatusCases;
extern const std::span<const Case> kFeatureCases;
// cases_queue.cc
extern const std::span<const Case> kQueueCases;
// cases_ring.cc
extern const std::span<const Case> kRingCases;
extern const std::span<const Case> kDescriptorCases;
// cases_packed.cc
extern const std::span<const Case> kPackedCases;
extern const std::span<const Case> kPackedChainCases;
extern const std::span<const Case> kPackedRaceCases;
// cases_events.cc
extern const std::span<const Case> kEventCases;
// cases_flood.cc
extern const std::span<const Case> kFloodCases;
// cases_race.cc
extern const std::span<const Case> kRaceCases;
extern const std::span<const Case> kFifoRaceCases;
extern const std::span<const Case> kSpscRaceCases;
extern const std::span<const Case> kShmemRaceCases;
extern const std::span<const Case> kFunctionRaceCases;

// Number of groups, and one of them. A case is named GROUP/NAME.
uint32_t CatalogueGroups();
Group CatalogueGroup(uint32_t index);  // index < CatalogueGroups()

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_CATALOGUE_H_
