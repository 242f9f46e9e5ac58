/* Layout spsc: a driver that leaves, and the next one, by bus mastering and
 * function reset.
 *
 * The code: SetBusMaster, ResetFunction, TakeOver and Publish of
 * devices/virtio_msg_amp_pci/fifo_channel.cc; SpscFifo of both sides. One life
 * is one driver from Attach to its end.
 *
 * Checked: what the device publishes, and what it does while its DMA gate is
 * open, belongs to the driver that is there; a driver that stays gets each
 * answer once and in order, and beside them only what was published before it
 * came; a FIFO that nobody corrupted is never BROKEN; nobody waits for ever.
 * README.md says how to read this.
 *
 *   S  slots of a queue   N  requests of a driver   LIVES  drivers
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

/* A packet: who sent the request, and which one it was. */
#define MESSAGE(life, i) ((life) * 16 + (i))
#define LIFE(message) ((message) / 16)
#define INDEX(message) ((message) % 16)

/* The window. */
byte drv_q[S], drv_written, drv_taken;
byte dev_q[S], dev_written, dev_taken;

bool bell, irq, wake;

/* FifoChannel, under its lock. */
bool locked, bus_master, cleared, dropped, gate;
byte mark, epoch;

byte life = 1;    /* whose packets count */

inline lock() { atomic { !locked -> locked = true } }
inline unlock() { locked = false }

/* --- vCPU threads. --- */

inline clear_function() {
  bus_master = false;
  gate = false;
  d_step { cleared = true; dropped = false };
  epoch++;
  /* DeviceFifo::ClearWindow. */
  drv_written = 0;
  drv_taken = 0;
  dev_written = 0;
  dev_taken = 0
}

/* From here on, what is published is the next driver's. */
inline end_life() { life++ }

inline bus_master_off() {
  lock();
  bus_master = false;
  gate = false;
  d_step { mark = drv_written; dropped = true };
  epoch++;
  end_life();
  unlock();
  wake = true
}

inline bus_master_on() {
  lock();
  bus_master = true;
#ifdef BUG_GATE_OPENS_WITH_BIT
  gate = true;
#endif
  epoch++;
  unlock();
  wake = true
}

/* --- The driver, which runs on the vCPU that does the above. --- */

active proctype Driver() {
  byte out_next, out_taken, in_next, in_written, asked, answered, value;
  bool on;

attach:
  if
  /* What was raised for the driver before is gone. */
  :: !on -> irq = false; bus_master_on(); on = true
  :: else
  fi;
  asked = 0;
  answered = 0;
  out_next = drv_written;
  out_taken = drv_taken;
  in_written = dev_written;
  in_next = dev_taken;

  do
  :: asked < N && NEXT(out_next) != out_taken ->
     drv_q[out_next] = MESSAGE(life, asked + 1);
     d_step { out_next = NEXT(out_next); asked++ };
     drv_written = out_next;
     bell = true
  :: asked < N && NEXT(out_next) == out_taken && drv_taken != out_taken ->
     out_taken = drv_taken
  :: atomic { irq -> irq = false };
     /* Drains on interrupts only, as a driver of spsc may. */
     do
     :: if
        :: in_next == in_written -> in_written = dev_written
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
          :: LIFE(value) == life && INDEX(value) == answered + 1 -> answered++
          /* Published before it came: the token is not its own. */
          :: else -> assert(LIFE(value) < life)
          fi;
          value = 0
        };
        dev_taken = in_next
     od
  :: answered == N && life >= LIVES -> break
  /* It leaves whenever it likes, in whichever way. */
  :: life < LIVES ->
     bus_master_off();
     on = false;
     goto attach
  :: life < LIVES ->
     lock();
     clear_function();
     end_life();
     unlock();
     wake = true;
     on = false;
     goto attach
  od
}


/* --- The loop. --- */

active proctype Device() {
  byte in_next, in_published, in_written;  /* PacketConsumer */
  byte out_next, out_published, out_taken; /* PacketProducer */
  byte seen_epoch, owed, value, i;
  bool broken;
  bool running, gone, taken, sent, armed, drained;


#define OVERTAKEN (epoch != seen_epoch)

end_idle:
  do
  :: atomic {
       /* Timers fire when they like; looks that change nothing are left out. */
       if
       :: bell -> bell = false
       :: wake -> wake = false
       :: armed && NEXT(out_next) != dev_taken
       fi
     }
     /* FifoChannel::TakeOver. */
     if
     :: OVERTAKEN ->
        lock();
        d_step {
          seen_epoch = epoch;
          running = bus_master;
          gone = cleared || dropped
        };
        if
        :: gone ->
           d_step {
             if
             :: cleared ->
                broken = false;
                in_next = 0; in_published = 0; in_written = 0;
                out_next = 0; out_published = 0; out_taken = 0
             :: else
             fi;
             if
             :: dropped ->
                out_next = out_published;
#ifdef BUG_NO_MARK
                in_next = drv_written;
#else
                in_next = mark;
#endif
                in_written = in_next;
                in_published = in_next;
                drv_taken = in_next
             :: else
             fi;
             cleared = false;
             dropped = false;
             mark = 0
           }
        :: else
        fi;
        unlock();
        if
        :: gone ->
           d_step {
             gone = false;
             taken = false;
             sent = false;
             armed = false;
#ifndef BUG_ANSWER_SURVIVES
             owed = 0
#endif
           }
        :: else
        fi;
        if
        :: running ->
           lock();
           if
           :: OVERTAKEN -> unlock(); goto end_idle
           :: else -> gate = true
           fi;
           unlock();
#ifndef BUG_NO_INTERRUPT_FOR_UNREAD
           if
           :: dev_taken != out_published -> irq = true
           :: else
           fi
#endif
        :: else
        fi
     :: else
     fi;
     if
     :: !running -> goto end_idle
     :: else
     fi;


     /* FifoChannel::Move, without its bound: queue.pml has it. */
     drained = false;
     do
     :: broken -> break
     :: else ->
        if
        :: owed == 0 ->
           if
           :: in_next == in_written ->
              if
              :: drv_taken != in_published -> broken = true; break
              :: else
              fi;
              in_written = drv_written
           :: else
           fi;
           if
           :: in_next == in_written -> drained = true
           :: else ->
              value = drv_q[in_next];
              in_next = NEXT(in_next);
              if
              :: OVERTAKEN -> value = 0; goto end_idle
              :: else
              fi;
              d_step {
                /* What a device does to memory goes through the gate. */
                assert(!gate || LIFE(value) == life);
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
              :: dev_written != out_published -> broken = true; break
              :: else
              fi;
              out_taken = dev_taken
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
#ifndef BUG_NO_LOCK
        lock();
#endif
#ifndef BUG_NO_EPOCH_CHECK
        if
        :: OVERTAKEN ->
#ifndef BUG_NO_LOCK
           unlock();
#endif
           goto end_idle
        :: else
        fi;
#endif
        if
        :: !broken && in_published != in_next ->
           in_published = in_next;
           d_step { drv_taken = in_next }
        :: else
        fi;
        if
        :: !broken && out_published != out_next ->
           d_step {
             i = out_published;
             do
             :: i != out_next -> assert(LIFE(dev_q[i]) == life); i = NEXT(i)
             :: else -> break
             od;
             i = 0;
             out_published = out_next;
             dev_written = out_next
           }
        :: else
        fi;
#ifndef BUG_NO_LOCK
        unlock()
#endif
     :: else ->
        if
        :: OVERTAKEN -> goto end_idle
        :: else
        fi
     fi;
     if
     :: sent && !broken -> irq = true
     :: else
     fi;
     /* NoteChanges reports it, and nobody has corrupted anything. */
     assert(!broken);
     d_step { taken = false; sent = false; armed = (owed != 0) }
  od
}

