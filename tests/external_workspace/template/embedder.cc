// A program of another workspace that links a part of vmsg.

#include <cstdio>

#include "vmm/base/event_fd.h"
#include "vmm/base/guest_address.h"

int main() {
  using vmsg::vmm::GuestAddress;
  using vmsg::vmm::GuestRange;

  const GuestRange doorbells{GuestAddress{0xfe000000}, 0x1000};
  if (!doorbells.Contains(GuestAddress{0xfe000ffc})) return 1;

  auto doorbell = vmsg::vmm::EventFd::Create();
  if (!doorbell.ok()) return 1;
  doorbell->Signal();
  if (doorbell->Drain() == 0) return 1;

  std::puts("embedder: ok");
  return 0;
}
