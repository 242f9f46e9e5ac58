#include "guest/driver/chain_table.h"

#include <new>

namespace vmsg::guest {

const char* QueueFaultName(QueueFault fault) {
  switch (fault) {
    case QueueFault::kNone:
      return "none";
    case QueueFault::kIndexPastOutstanding:
      return "index-past-outstanding";
    case QueueFault::kUnknownChain:
      return "unknown-chain";
    case QueueFault::kUnpublishedChain:
      return "unpublished-chain";
    case QueueFault::kTooMuchWritten:
      return "too-much-written";
    case QueueFault::kOutOfOrder:
      return "out-of-order";
  }
  return "unknown";
}

uint64_t ChainTable::ArenaBytes(uint32_t size) {
  return uint64_t{size} * sizeof(Record) + alignof(Record);
}

bool ChainTable::Create(uint32_t size, bool in_order, Arena* arena) {
  const DmaMemory memory =
      arena->Allocate(uint64_t{size} * sizeof(Record), alignof(Record));
  if (memory.data == nullptr) return false;
  records_ = reinterpret_cast<Record*>(memory.data);
  for (uint32_t i = 0; i < size; ++i) {
    new (&records_[i])
        Record{.chain = {}, .next = static_cast<uint16_t>(i + 1)};
  }
  size_ = size;
  in_order_ = in_order;
  free_head_ = 0;
  free_tail_ = static_cast<uint16_t>(size - 1);
  free_ids_ = size;
  outstanding_ = 0;
  added_ = published_ = given_back_ = 0;
  due_id_ = 0;
  due_ = 0;
  return true;
}

uint16_t ChainTable::TakeId() {
  const uint16_t id = free_head_;
  free_head_ = records_[id].next;
  --free_ids_;
  return id;
}

void ChainTable::Add(uint16_t id, const Chain& chain) {
  Record& record = records_[id];
  record.chain = chain;
  record.number = added_++;
  record.known = true;
  ++outstanding_;
}

QueueFault ChainTable::Use(uint32_t id, uint32_t written) {
  if (id >= size_ || !records_[id].known) return QueueFault::kUnknownChain;
  const Record& record = records_[id];
  const auto added_after = static_cast<uint16_t>(added_ - record.number - 1);
  if (added_after < unpublished()) return QueueFault::kUnpublishedChain;
  if (written > record.chain.writable) return QueueFault::kTooMuchWritten;
  due_written_ = written;
  if (in_order_) {
    // due_id_ is the eldest already.
    due_ = 1u + static_cast<uint16_t>(record.number - given_back_);
  } else {
    due_ = 1;
    due_id_ = static_cast<uint16_t>(id);
  }
  return QueueFault::kNone;
}

uint16_t ChainTable::Next(UsedChain* chain) {
  const uint16_t id = due_id_;
  Record& record = records_[id];
  --due_;
  *chain = {record.chain.cookie,
            due_ == 0 ? due_written_ : record.chain.writable};

  uint16_t last = id;
  for (uint16_t i = 1; i < record.chain.ids; ++i) last = records_[last].next;
  if (free_ids_ == 0) {
    free_head_ = id;
  } else {
    records_[free_tail_].next = id;
  }
  free_tail_ = last;
  free_ids_ += record.chain.ids;
  record.known = false;
  --outstanding_;
  ++given_back_;
  // In order, ids go round in a circle: this one's successor is the eldest now.
  if (in_order_) {
    const uint32_t after = uint32_t{id} + record.chain.ids;
    due_id_ = static_cast<uint16_t>(after < size_ ? after : after - size_);
  }
  return record.chain.descriptors;
}

}  // namespace vmsg::guest
