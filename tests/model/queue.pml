/* A FIFO that runs: both queues, doorbell, interrupt, back-pressure.
 *
 * The queues of both layouts are these, and differ in where their indices are:
 * PacketProducer and PacketConsumer of the device
 * (devices/virtio_msg_amp_pci/fifo/packet_queue.h), PacketSender and
 * PacketReceiver of the driver (guest/driver/packet_queue.h), and the turn of
 * FifoChannel (devices/virtio_msg_amp_pci/fifo_channel.cc).
 *
 * Checked: packets arrive whole, once, in order; the driver gets the answer to
 * each request and hears of the last event; no execution ends with somebody
 * waiting. README.md says how to read this.
 *
 *   S  slots of a queue       N  requests of the driver
 *   B  packets in a turn      K  times that a back end raises the event
 *   BUG_...  one mistake, which has to be found
 */
#ifndef S
#define S 2
#endif
#ifndef N
#define N 3
#endif
#ifndef B
#define B 2
#endif
#ifndef K
#define K 1
#endif

#define NEXT(i) (((i) + 1) % S)
#ifdef BUG_NOT_FULL
#define FULL(next, taken) (false)
#else
#define FULL(next, taken) (NEXT(next) == (taken))
#endif

#define TORN 255
#define EVENT 100 /* an event message carries EVENT + level */

/* The window. drv: driver to device, dev: device to driver. */
byte drv_q[S], drv_written, drv_taken;
byte dev_q[S], dev_written, dev_taken;

bool bell, irq; /* edges that were signalled and not yet consumed */
bool wake;      /* FifoChannel::wake_ */
bool event_bit; /* the bus's set of slots with events, of one slot */
byte level;     /* what an event is about, such as a used ring */

/* A packet is several words: written and read in two steps. */
inline write(slot, what) {
  slot = TORN;
  slot = what
}
inline read(slot, into) {
  into = slot;
  d_step { assert(into != TORN && slot == into) }
}

/* --- The driver. One thread sends, one serves interrupts. --- */

active proctype Sender() {
  byte next, taken, i = 1;
  do
  :: i <= N ->
     if
     :: FULL(next, taken) ->
#ifdef BUG_STALE_INDEX
        false /* never looks again */
#else
        /* It looks on a timer; a look that changes nothing is left out. */
        atomic { !FULL(next, drv_taken) -> taken = drv_taken }
#endif
     :: else
     fi;
#ifdef BUG_PUBLISH_BEFORE_WRITE
     drv_written = NEXT(next);
     write(drv_q[next], i);
     next = NEXT(next);
     bell = true;
#else
     write(drv_q[next], i);
     next = NEXT(next);
#ifdef BUG_BELL_BEFORE_PUBLISH
     bell = true;
     drv_written = next;
#else
     drv_written = next;
     bell = true;
#endif
#endif
     i++
  :: else -> break
  od
}

active proctype Receiver() {
  byte next, written, value, answers, seen;
  do
  :: answers == N && seen == K -> break
  :: else ->
#ifdef BUG_INTERRUPT_FORGOTTEN_AFTER
     irq;
#else
     atomic { irq -> irq = false };
#endif
     do
     :: if
        :: next == written -> written = dev_written
        :: else
        fi;
        if
        :: next == written -> break
        :: else
        fi;
#ifdef BUG_TAKEN_BEFORE_COPY
        dev_taken = written; /* of all that it has seen */
        read(dev_q[next], value);
#else
        read(dev_q[next], value);
        dev_taken = NEXT(next);
#endif
        d_step {
          next = NEXT(next);
          if
          :: value > EVENT ->
             assert(value - EVENT >= seen && value - EVENT <= K);
             seen = value - EVENT
          :: else ->
             assert(value == answers + 1 && value <= N);
             answers = value
          fi;
          value = 0
        }
     od;
#ifdef BUG_INTERRUPT_FORGOTTEN_AFTER
     irq = false;
#endif
  od
}

/* --- The device. --- */

/* A back end, on a thread of its own: MessageBus::Impl::OnSlotEvent. */
active proctype BackEnd() {
  bool before;
  do
  :: level < K ->
     level++;
     d_step { before = event_bit; event_bit = true };
     if
     :: !before -> wake = true
     :: else
     fi
  :: else -> break
  od
}

/* PacketProducer::Push, into `pushed`. */
inline push(message) {
  if
  :: FULL(out_next, out_taken) -> out_taken = dev_taken
  :: else
  fi;
  if
  :: FULL(out_next, out_taken) -> pushed = false
  :: else ->
     write(dev_q[out_next], message);
     d_step { out_next = NEXT(out_next); pushed = true; sent = true }
  fi
}

active proctype Device() {
  byte in_next, in_published, in_written; /* PacketConsumer */
  byte out_next, out_published, out_taken; /* PacketProducer */
  byte got, owed, budget, value;
  bool pushed, drained, sent, all_sent, armed, again;

end_idle:
  do
  :: atomic {
       /* Why a turn begins. The re-check timer fires when it likes; a look that
        * finds no room is left out, since it changes nothing. */
       if
#ifdef BUG_BELL_FORGOTTEN_AFTER
       :: bell
#else
       :: bell -> bell = false
#endif
       :: wake -> wake = false
#ifndef BUG_NO_RECHECK
       :: armed && !FULL(out_next, dev_taken)
#endif
       fi;
       budget = B;
       drained = false;
       again = true
     }
     /* FifoChannel::Move. */
     do
     :: again ->
        do
        :: budget != 0 && owed == 0 ->
           if
           :: in_next == in_written -> in_written = drv_written
           :: else
           fi;
           if
           :: in_next == in_written -> drained = true; break
           :: else
           fi;
#ifdef BUG_DEVICE_TAKEN_BEFORE_COPY
           drv_taken = in_written; /* of all that it has seen */
           in_published = in_written;
#endif
           read(drv_q[in_next], value);
           d_step {
             in_next = NEXT(in_next);
             budget--;
             assert(value == got + 1 && value <= N);
             got = value
           }
           push(value);
#ifndef BUG_ANSWER_DROPPED
           d_step {
             if
             :: !pushed -> owed = value
             :: else
             fi
           }
#endif
        :: else -> break
        od;
        /* MessageBus::Flush: answers, then events. */
        if
        :: owed != 0 ->
           push(owed);
           if
           :: pushed -> owed = 0
           :: else
           fi
        :: else
        fi;
        all_sent = (owed == 0);
        if
        :: all_sent && event_bit ->
#ifdef BUG_EVENT_FORGOTTEN_AFTER
           value = level;
           push(EVENT + value);
           event_bit = false;
#else
           event_bit = false;
           value = level;
           push(EVENT + value);
#endif
           if
           :: !pushed -> all_sent = false;
#ifndef BUG_EVENT_DROPPED
                         event_bit = true
#endif
           :: else
           fi
        :: else
        fi;
        again = (!drained && budget != 0 && owed == 0)
     :: else -> break
     od;
     if
     :: budget == 0 && !drained ->
#ifdef BUG_NO_LOOK_AGAIN
        skip
#else
        wake = true
#endif
     :: else
     fi;
     /* FifoChannel::Publish. */
#ifdef BUG_INTERRUPT_BEFORE_PUBLISH
     if
     :: sent -> irq = true
     :: else
     fi;
#endif
     if
     :: in_published != in_next -> in_published = in_next; drv_taken = in_next
     :: else
     fi;
     if
     :: out_published != out_next ->
        out_published = out_next;
        dev_written = out_next
     :: else
     fi;
#ifndef BUG_INTERRUPT_BEFORE_PUBLISH
     if
     :: sent -> irq = true
     :: else
     fi;
#endif
#ifdef BUG_BELL_FORGOTTEN_AFTER
     bell = false;
#endif
     d_step {
       /* FifoChannel::ScheduleRecheck. */
       armed = !all_sent;
       sent = false;
       value = 0;
       pushed = false
     }
  od
}
