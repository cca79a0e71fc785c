/* The ring of one producer and one consumer (spsc.hpp, memory.hpp): publishing, consuming, releasing, and sleeping on both
   sides, on a processor whose stores can be seen late (x86's store buffers).

   spin -a spsc.pml && cc -w -DSAFETY -o pan pan.c && ./pan -m100000   (tests/unit/ring_model_test.cmake)

   Each side's stores go into its own buffer, a queue, which a process of its own empties in order, at any moment. A side
   sees its own buffered stores (it never needs to here: it reads only what the other one writes). A fence waits for an
   empty buffer. The data's slots are separate variables in the same queue, so order between data and index is modelled.

   Properties
     in order, none lost, none doubled, none torn    assert in the consumer: message n is n
     no slot is overwritten before it was released   the same assert
     no lost wake-up                                 no invalid end state: if both sides sleep for ever, pan says so

   Mutations, each of which pan must find:
     -DNO_FENCE_BEFORE_WAKE   needs_wake() without its fence
     -DNO_FENCE_BEFORE_SLEEP  prepare_sleep() without its fence
     -DNO_SECOND_LOOK         prepare_sleep() that does not look again
     -DINDEX_FIRST            the index is stored before the data
*/
#define SLOTS 2
#define MESSAGES 4
#define BUFFER 4

/* Shared memory. Indices count from 1: 0 is "behind every index". */
byte slot[SLOTS];
byte tail = 1;
byte head = 1;
byte wake_consumer = 0;  /* in the consumer's page: ring when tail passes this */
byte wake_producer = 0;  /* in the producer's page: ring when head passes this */

/* Doorbells: semaphores, so that a ring before the sleep is not forgotten. */
byte bell_consumer = 0;
byte bell_producer = 0;

mtype = { SLOT0, SLOT1, TAIL, HEAD, WAKE_CONSUMER, WAKE_PRODUCER };
chan producer_stores = [BUFFER] of { mtype, byte };
chan consumer_stores = [BUFFER] of { mtype, byte };

inline apply(what, value) {
  if
  :: what == SLOT0 -> slot[0] = value
  :: what == SLOT1 -> slot[1] = value
  :: what == TAIL -> tail = value
  :: what == HEAD -> head = value
  :: what == WAKE_CONSUMER -> wake_consumer = value
  :: what == WAKE_PRODUCER -> wake_producer = value
  fi
}

proctype drain(chan stores) {
  mtype what;
  byte value;
end:
  do
  :: atomic { stores ? what, value -> apply(what, value); what = SLOT0; value = 0 }
  od
}

#define fence(stores) empty(stores)

/* needs_wake(): rings if asked <= wish < published. */
inline wake(stores, wish, asked, published, bell) {
#ifndef NO_FENCE_BEFORE_WAKE
  fence(stores);
#endif
  atomic {
    if
    :: wish >= asked && wish < published -> bell++
    :: else
    fi;
    asked = published
  }
}

proctype producer() {
  byte next = 1, published = 1, seen = 1, asked = 1;
  do
  :: next > MESSAGES -> break
  :: next <= MESSAGES ->
    if
    :: next - seen < SLOTS ->
#ifdef INDEX_FIRST
      producer_stores ! TAIL, next + 1;
#endif
      if
      :: next % SLOTS == 0 -> producer_stores ! SLOT0, next
      :: else -> producer_stores ! SLOT1, next
      fi;
      next++;
      if
      :: skip  /* a batch goes on */
      :: producer_stores ! TAIL, next; published = next; wake(producer_stores, wake_consumer, asked, published, bell_consumer)
      fi
    :: else ->
      seen = head;
      if
      :: next - seen < SLOTS
      :: else ->
        /* prepare_sleep(): publishes, says where to be woken, looks again. */
        if
        :: published != next -> producer_stores ! TAIL, next; published = next
        :: else
        fi;
        producer_stores ! WAKE_PRODUCER, seen;
#ifndef NO_FENCE_BEFORE_SLEEP
        fence(producer_stores);
#endif
        bool sleep = true;
#ifndef NO_SECOND_LOOK
        sleep = (head == seen);
#endif
        wake(producer_stores, wake_consumer, asked, published, bell_consumer);
        if
        :: sleep -> atomic { bell_producer > 0 -> bell_producer-- }
        :: else
        fi
      fi
    fi
  od;
  if
  :: published != next -> producer_stores ! TAIL, next; published = next
  :: else
  fi;
  wake(producer_stores, wake_consumer, asked, published, bell_consumer)
}

proctype consumer() {
  byte next = 1, released = 1, seen = 1, asked = 1;
  do
  :: next > MESSAGES -> break
  :: next <= MESSAGES ->
    if
    :: next != seen ->
      assert(slot[next % SLOTS] == next);
      next++;
      if
      :: skip  /* a batch goes on */
      :: consumer_stores ! HEAD, next; released = next; wake(consumer_stores, wake_producer, asked, released, bell_producer)
      fi
    :: else ->
      seen = tail;
      assert(seen >= next && seen - released <= SLOTS);
      if
      :: next != seen
      :: else ->
        if
        :: released != next -> consumer_stores ! HEAD, next; released = next
        :: else
        fi;
        consumer_stores ! WAKE_CONSUMER, seen;
#ifndef NO_FENCE_BEFORE_SLEEP
        fence(consumer_stores);
#endif
        bool sleep = true;
#ifndef NO_SECOND_LOOK
        sleep = (tail == seen);
#endif
        wake(consumer_stores, wake_producer, asked, released, bell_producer);
        if
        :: sleep -> atomic { bell_consumer > 0 -> bell_consumer-- }
        :: else
        fi
      fi
    fi
  od
}

init {
  atomic {
    run drain(producer_stores);
    run drain(consumer_stores);
    run producer();
    run consumer()
  }
}
