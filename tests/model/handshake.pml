/* Layout shmem-v1: drivers that come, leave in any way, and come again.
 *
 * The code: ShmemFifo of both sides (devices/virtio_msg_amp_pci/fifo and
 * guest/driver), and TakeOver, Shake, Move, Publish, SetBusMaster,
 * ResetFunction, RemoveFunction and ResetFifo of
 * devices/virtio_msg_amp_pci/fifo_channel.cc. One life is one driver from
 * Attach to its end.
 *
 * Checked: a driver gets answers to its own requests only, each once and in
 * order; what the device takes in one RUN is of one driver; what it takes with
 * its DMA gate open, and what it publishes, is of no driver that bus mastering
 * or a reset has ended; a FIFO that nobody corrupted is never BROKEN, and one
 * that is comes back with the next driver; nobody waits for ever, and when
 * nobody has anything left to do, both are in RUN, or the device in SHUTDOWN
 * when it was removed. README.md says how to read this.
 *
 * What can't be noticed: a driver that goes from RUN through INIT and READY to
 * RUN between two looks of the device. The driver of this project waits in INIT
 * until the device has left RUN. One that does not is FOREIGN here. It is safe
 * when a reset ended the one before, or bus mastering did, and not between READY
 * and RUN, or when the device has seen SHUTDOWN. FOREIGN with HASTY leaves and
 * comes as it likes, and has to fail: that is the limit of the layout, and no
 * mistake of the code.
 *
 *   S  slots of a queue   N  requests of a driver   LIVES  drivers
 *   FOREIGN  a driver that follows the letter, rings for packets only, and looks
 *            at the device's state in its handshake only
 *   OUTSIDE  bus mastering goes off and on (1), a function reset (2), or the
 *            operator's reset of the FIFO (3) comes from elsewhere, once, at any
 *            time
 *   REMOVE   the function is removed at some time
 *   BUG_...  one mistake, which has to be found
 */
#ifndef S
#define S 2
#endif
#ifndef N
#define N 1
#endif
#ifndef LIVES
#define LIVES 2
#endif
#define NEXT(i) (((i) + 1) % S)
#define USED(written, taken) (((written) + S - (taken)) % S)

/* A packet: who sent the request, and which one it was. 0: cleared. */
#define MESSAGE(life, i) ((life) * 16 + (i))
#define LIFE(message) ((message) / 16)
#define INDEX(message) ((message) % 16)

#define INIT 0
#define READY 1
#define RUN 2
#define SHUTDOWN 3
#define ABSENT 4 /* what the device makes of no magic, or a state above RUN */

/* The window: two queue heads and two arrays of elements. */
bool dev_magic = true;
byte dev_state, dev_tail, dev_head, dev_q[S];
bool drv_magic;
byte drv_state, drv_tail, drv_head, drv_q[S];

bool bell, irq, wake;
bool resting; /* no turn of the device is under way */

/* FifoChannel, under its lock. */
bool locked, bus_master, cleared, dropped, gate, removed;
byte epoch;

byte life;         /* whose packets count */
byte first_life;   /* those before it were ended by bus mastering or a reset */
bool corrupt;      /* a driver wrote nonsense into the window */
bool served;       /* the driver has an answer to each request */
bool stopped;      /* it knows that the device is gone */

inline lock() { atomic { !locked -> locked = true } }
inline unlock() { locked = false }

/* Our queue head as one word. */
inline store_word(to, tail, head) {
  dev_magic = true;
  dev_state = to;
  dev_tail = tail;
  dev_head = head
}
inline store_own(to, tail, head) {
#ifdef BUG_INDICES_BEFORE_STATE
  d_step { dev_tail = tail; dev_head = head };
#endif
  d_step { store_word(to, tail, head) }
}

/* --- vCPU threads. --- */

inline clear_window() {
  d_step { dev_magic = false; dev_state = 0; dev_tail = 0; dev_head = 0 };
  d_step {
    clear_i = 0;
    do
    :: clear_i < S -> dev_q[clear_i] = 0; drv_q[clear_i] = 0; clear_i++
    :: else -> break
    od;
    clear_i = 0
  };
  d_step { drv_magic = false; drv_state = 0; drv_tail = 0; drv_head = 0 };
  store_own(INIT, 0, 0)
}

/* A driver that has not come to RUN yet goes on with its handshake. */
inline close_gate() {
  d_step {
    gate = false;
    first_life = (drv_state == RUN -> life + 1 : life)
  }
}

inline set_bus_master(on) {
  lock();
  if
  :: removed || bus_master == on -> unlock()
  :: else ->
     bus_master = on;
     if
     :: !on -> close_gate()
     :: else
     fi;
#ifdef BUG_WINDOW_BEFORE_EPOCH
     if
     :: !on -> store_own(INIT, 0, 0)
     :: else
     fi;
#endif
     epoch++;
     /* DeviceFifo::DriverLeft. */
     if
     :: !on ->
#ifndef BUG_NO_EARLY_INIT
        store_own(INIT, 0, 0);
#endif
        dropped = true
     :: else
     fi;
     unlock();
     wake = true
  fi
}

/* FifoChannel::ClearFunction. */
inline clear_function() {
  bus_master = false;
  close_gate();
  d_step { cleared = true; dropped = false };
  epoch++;
  clear_window()
}

inline reset_function() {
  lock();
  if
  :: removed
  :: else -> clear_function()
  fi;
  unlock();
  wake = true
}

#ifdef OUTSIDE
bool operator; /* asks for a reset of the FIFO */

active proctype Outside() {
  byte clear_i;
#if OUTSIDE == 1
  set_bus_master(false);
  set_bus_master(true)
#elif OUTSIDE == 2
  reset_function();
  set_bus_master(true)
#else
  operator = true
#endif
}
#endif

#ifdef REMOVE
active proctype Remove() {
  byte clear_i;
  lock();
  clear_function();
  d_step { store_own(SHUTDOWN, 0, 0); removed = true };
  unlock();
  wake = true
}
#endif

/* --- The driver, on the vCPU that does the above, too. --- */

/* PacketReceiver::Look and PacketSender::Look: what the device has stored, into
 * `seen`. The state comes after the index, so that it is of an index that the
 * device has not put back. */
inline look(own, published, theirs) {
#ifdef FOREIGN
  seen = theirs
#else
#ifdef BUG_STATE_BEFORE_INDEX
  state = dev_state;
#endif
  fault = (own != published);
  seen = theirs;
#ifndef BUG_STATE_BEFORE_INDEX
  state = dev_state;
#endif
  d_step {
    fault = fault || (state != RUN && state != READY);
    state = 0
  }
#endif
}

/* A running driver looks on a timer too; one that finds all well is left out. */
#ifdef FOREIGN
#define DEVICE_LEFT false
#else
#define DEVICE_LEFT (dev_state == INIT || dev_state == SHUTDOWN || \
                     drv_head != in_next || drv_tail != out_next)
#endif

active proctype Driver() {
  byte out_next, out_taken, in_next, in_written, asked, answered;
  byte seen, state, value, clear_i;
  byte hurries;
  bool fault;

attach:
  assert(life < 12); /* is not sent back again and again */
  irq = false;
  set_bus_master(true);
  d_step {
    life++;
    drv_state = INIT;
    out_next = 0; out_taken = 0; in_next = 0; in_written = 0;
    asked = 0; answered = 0; fault = false; served = false
  };
  drv_magic = true;

  /* Polls for the device's state; one that changes nothing is left out. */
  if
  :: life < LIVES -> goto leave
#if defined(FOREIGN) || defined(BUG_DRIVER_DOES_NOT_WAIT)
  :: atomic { dev_magic -> seen = dev_state }
#else
  :: atomic { dev_magic && dev_state != RUN -> seen = dev_state }
#endif
  :: !drv_magic -> goto timed_out /* cleared from outside */
  fi;
  if
  :: seen > RUN -> goto device_gone
  :: else
  fi;
#ifndef BUG_CLEAR_AFTER_READY
  drv_tail = 0;
  drv_head = 0;
#endif
  drv_state = READY;
#ifdef BUG_CLEAR_AFTER_READY
  drv_tail = 0;
  drv_head = 0;
#endif
#ifndef FOREIGN
  bell = true;
#endif
  if
  :: life < LIVES -> goto leave
  :: atomic { dev_magic && dev_state != INIT -> seen = dev_state }
  :: !drv_magic -> goto timed_out
  fi;
  if
  :: seen > RUN -> goto device_gone
  :: else
  fi;
  drv_state = RUN;
#ifndef FOREIGN
  bell = true;
#endif

end_attached: /* End() says whether it may end here. */
  do
  :: asked < N && NEXT(out_next) != out_taken ->
     drv_q[out_next] = MESSAGE(life, asked + 1);
     d_step { out_next = NEXT(out_next); asked++ };
     drv_tail = out_next;
     bell = true
  :: asked < N && NEXT(out_next) == out_taken &&
     (dev_head != out_taken || DEVICE_LEFT) ->
     look(drv_tail, out_next, dev_head);
     if
     :: fault || USED(out_next, seen) > USED(out_next, out_taken) -> goto sent_back
     :: else -> out_taken = seen
     fi
  :: atomic { irq || DEVICE_LEFT -> irq = false };
     do
     :: if
        :: in_next == in_written ->
           look(drv_head, in_next, dev_tail);
           if
           :: fault || USED(seen, in_next) < USED(in_written, in_next) ->
              goto sent_back
           :: else -> in_written = seen
           fi
        :: else
        fi;
        if
        :: in_next == in_written -> break
        :: else
        fi;
        value = dev_q[in_next];
        d_step {
          in_next = NEXT(in_next);
          if
          :: value == 0 /* cleared: malformed */
          :: else ->
             assert(LIFE(value) == life && INDEX(value) == answered + 1);
             answered++;
             served = (answered == N)
          fi;
          value = 0;
          seen = 0
        };
        drv_head = in_next
     od
  :: life < LIVES -> break
  od;

leave: /* It leaves whenever it likes. */
  if
  :: reset_function()
#if defined(FOREIGN) && !defined(HASTY)
  :: drv_state != READY -> set_bus_master(false)
  :: drv_state = SHUTDOWN;
     resting && dev_state == INIT
#else
  :: set_bus_master(false)
  :: drv_state = SHUTDOWN
  :: skip
  :: corrupt = true; drv_tail = S; bell = true
  /* In READY, where the device stores its word again, a driver that comes in
   * between would believe it: the guest's own loss. */
  :: atomic { dev_state == RUN -> corrupt = true; dev_head = NEXT(dev_head) };
     bell = true
#endif
  fi;
  goto attach;

timed_out:
  drv_state = SHUTDOWN;

sent_back: /* It starts anew: a few times at once, then not in the same turn. */
  atomic {
    if
    :: hurries < 2 -> hurries++
    :: hurries == 2 && resting
    fi
  };
  goto attach;

device_gone:
  assert(removed);
  drv_state = SHUTDOWN;
  stopped = true
}

/* --- The loop. --- */

#define OVERTAKEN (epoch != seen_epoch)
#define RUNNING (own_state == RUN && !broken)

/* ShmemFifo::NextState. */
#ifdef BUG_RUN_WITH_RUN
#define LEAVES_INIT(p) ((p) <= RUN)
#else
#define LEAVES_INIT(p) ((p) <= READY)
#endif
#define NEXT_STATE(p) \
  (own_state == INIT -> (LEAVES_INIT(p) -> READY : INIT) : \
   (own_state == READY -> \
      ((p) == INIT -> READY : ((p) <= RUN -> RUN : INIT)) : \
      ((p) == RUN || ((p) == READY && !peer_ran) -> RUN : INIT)))
#define PEER (drv_magic && drv_state <= RUN -> drv_state : ABSENT)
#define OWN_WORD_INTACT \
  (dev_magic && dev_state == own_state && dev_tail == out_published && \
   dev_head == in_published)
/* Whether a look of the timer would change anything. */
#define LOOK_IS_DUE \
  (OVERTAKEN || (broken && (!break_shown || PEER <= READY)) || \
   (!broken && (!OWN_WORD_INTACT || NEXT_STATE(PEER) != own_state || \
                (own_state == RUN && PEER == RUN && !peer_ran))))

inline restart() {
  d_step {
    in_next = 0; in_published = 0; in_written = 0;
    out_next = 0; out_published = 0; out_taken = 0;
    broken = false; break_shown = false; peer_ran = false;
    own_state = INIT
  }
}

inline show_state(to) {
  d_step {
    own_state = to;
    store_word(to, out_published, in_published)
  }
}

/* FifoChannel::ForgetDriver. */
inline forget_driver() {
  d_step {
    taken = false; sent = false; armed = false;
    served_life = 0;
#ifndef BUG_ANSWER_SURVIVES
    owed = 0
#endif
  }
}

/* ShmemFifo::Poll, into `due`. */
inline poll() {
  peer = PEER;
  if
  :: broken -> due = (!break_shown || peer <= READY)
  :: else ->
     if
     :: !OWN_WORD_INTACT ->
        d_step { broken = true; break_shown = false; due = true }
     :: else ->
        d_step {
          if
          :: own_state == RUN && peer == RUN -> peer_ran = true
          :: else
          fi;
          due = (NEXT_STATE(peer) != own_state)
        }
     fi
  fi;
  peer = 0
}

/* ShmemFifo::Step, into `driver_gone`. */
inline step() {
  peer = PEER;
  if
  :: broken ->
     driver_gone = (break_shown && peer <= READY);
     if
     :: driver_gone -> restart()
     :: else
     fi;
#ifdef BUG_BROKEN_SHOWS_SHUTDOWN
     if
     :: driver_gone -> show_state(INIT)
     :: else -> d_step { own_state = INIT; store_word(SHUTDOWN, 0, 0) }
     fi;
#else
     /* What OwnWord() makes of INIT has indices of 0. */
     d_step { own_state = INIT; store_word(INIT, 0, 0) };
#endif
     break_shown = !driver_gone
  :: else ->
     next = NEXT_STATE(peer);
     if
     :: next == own_state -> driver_gone = false
     :: else ->
        driver_gone = (own_state == RUN);
        if
        :: next == INIT -> restart()
        :: else
        fi;
        show_state(next);
        if
        :: next == RUN -> peer_ran = (peer == RUN)
        :: else
        fi
     fi
  fi;
  d_step { peer = 0; next = 0 }
}

active proctype Device() {
  byte in_next, in_published, in_written;  /* PacketConsumer */
  byte out_next, out_published, out_taken; /* PacketProducer */
  byte own_state, seen_epoch, owed, value, i, peer, next, served_life, clear_i;
  bool broken, break_shown, peer_ran, running, taken, sent, armed, drained;
  bool due, driver_gone;

rest:
  resting = true;

end_idle:
  do
#ifdef OUTSIDE
  :: operator ->
     /* FifoChannel::ResetFifo. */
     operator = false;
     lock();
     clear_window();
     restart();
     dropped = false;
     unlock();
     forget_driver();
     wake = true
#endif
  :: atomic {
       /* Timers fire when they like; looks that change nothing are left out. */
       if
       :: bell -> bell = false
       :: wake -> wake = false
       :: armed && NEXT(out_next) != drv_head
#ifndef BUG_NO_LOOK_TIMER
       :: running && LOOK_IS_DUE
#endif
       fi;
       resting = false
     }
     /* FifoChannel::TakeOver. */
     if
     :: OVERTAKEN ->
        lock();
        d_step {
          seen_epoch = epoch;
          running = bus_master;
          driver_gone = cleared || dropped
        };
        if
        :: driver_gone -> restart()
        :: else
        fi;
#ifdef BUG_NO_EARLY_INIT
        if
        :: dropped -> store_own(INIT, 0, 0)
        :: else
        fi;
#endif
        d_step { cleared = false; dropped = false };
        unlock();
        if
        :: driver_gone -> forget_driver(); driver_gone = false
        :: else
        fi;
        if
        :: running ->
           lock();
           if
           :: OVERTAKEN -> unlock(); goto rest
           :: else -> gate = true
           fi;
           unlock()
        :: else
        fi
     :: else
     fi;
     if
     :: !running -> goto rest
     :: else
     fi;

     /* FifoChannel::Shake, without its bound: the look comes back. */
     poll();
     do
     :: due ->
#ifndef BUG_STEP_WITHOUT_LOCK
        lock();
#endif
#ifndef BUG_STEP_WITHOUT_EPOCH
        if
        :: OVERTAKEN ->
           d_step { due = false; driver_gone = false };
#ifndef BUG_STEP_WITHOUT_LOCK
           unlock();
#endif
           goto rest
        :: else
        fi;
#endif
        step();
#ifndef BUG_STEP_WITHOUT_LOCK
        unlock();
#endif
        if
        :: driver_gone -> forget_driver(); driver_gone = false
        :: else
        fi;
        /* NoteChanges reports it. */
        assert(!broken || corrupt);
        poll()
     :: else -> break
     od;

     /* FifoChannel::Move, without its bound: queue.pml has it. */
     drained = false;
     do
     :: !RUNNING -> break
     :: else ->
        if
        :: owed == 0 ->
           if
           :: in_next == in_written ->
              if
              :: dev_head != in_published ->
                 d_step { broken = true; break_shown = false };
                 break
              :: else
              fi;
              value = drv_tail;
              if
              :: value >= S ->
                 d_step { broken = true; break_shown = false; value = 0 };
                 break
              :: else
              fi;
              d_step { in_written = value; value = 0 }
           :: else
           fi;
           if
           :: in_next == in_written -> drained = true
           :: else ->
              value = drv_q[in_next];
              in_next = NEXT(in_next);
              if
              :: OVERTAKEN -> value = 0; goto rest
              :: else
              fi;
              d_step {
                if
                :: value == 0 /* malformed; the function was just cleared */
                :: else ->
                   /* What a device does to memory goes through the gate. */
                   assert(!gate || LIFE(value) >= first_life);
                   assert(served_life == 0 || served_life == LIFE(value));
                   served_life = LIFE(value)
                fi;
                taken = true;
                owed = value;
                value = 0
              }
           fi
        :: else
        fi;
        if
        :: owed != 0 ->
           if
           :: NEXT(out_next) == out_taken ->
              if
              :: dev_tail != out_published ->
                 d_step { broken = true; break_shown = false };
                 break
              :: else
              fi;
              out_taken = drv_head
           :: else
           fi;
           if
           :: NEXT(out_next) == out_taken -> break
           :: else ->
              dev_q[out_next] = owed;
              d_step { out_next = NEXT(out_next); owed = 0; sent = true }
           fi
        :: else
        fi;
        if
        :: drained -> break
        :: else
        fi
     od;

     /* FifoChannel::Publish. */
     if
     :: taken || sent ->
        lock();
#ifndef BUG_PUBLISH_WITHOUT_EPOCH
        if
        :: OVERTAKEN -> unlock(); goto rest
        :: else
        fi;
#endif
        if
        :: !broken && in_published != in_next ->
           in_published = in_next;
           dev_head = in_next
        :: else
        fi;
        if
        :: !broken && out_published != out_next ->
           d_step {
             i = out_published;
             do
             :: i != out_next ->
                assert(dev_q[i] == 0 || LIFE(dev_q[i]) >= first_life);
                i = NEXT(i)
             :: else -> break
             od;
             i = 0;
             out_published = out_next;
             dev_tail = out_next
           }
        :: else
        fi;
        unlock()
     :: else ->
        if
        :: OVERTAKEN -> goto rest
        :: else
        fi
     fi;
     if
     :: sent && !broken -> irq = true
     :: else
     fi;
     assert(!broken || corrupt);
     d_step { taken = false; sent = false; armed = (owed != 0) };
    resting = true
  od
}

/* When nobody has anything left to do. */
active proctype End() {
  timeout;
  if
  :: removed -> assert(dev_state == SHUTDOWN && stopped)
  :: else -> assert(served && dev_state == RUN && drv_state == RUN)
  fi
}
