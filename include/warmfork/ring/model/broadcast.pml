/* The ring of one writer and many readers (broadcast.hpp): overruns, on a processor whose stores can be seen late but in
   order (x86's store buffer). One reader stands for all, as none of them is seen by the writer or by another.

   spin -a broadcast.pml && cc -w -DSAFETY -o pan pan.c && ./pan -m100000   (tests/unit/ring_model_test.cmake)

   A record is two words, each written and read by itself: its number and a payload that must be the same. Positions count
   records; record n lies in place n mod PLACES. The writer's stores go through a queue that another process empties. The
   reader may stop between any two steps, for as long as it likes.

   Properties
     no torn record is accepted           assert: the payload is the number
     none is accepted twice or too early  assert: numbers only go up, and are not ahead of tail
     losses are exact                     assert: accepted + lost == number of the last accepted + 1
     the reader never sees a state it is stuck in: a look ends with a record, an overrun or nothing (no invalid end state)

   Mutations, each of which pan must find:
     -DNO_SECOND_CHECK   the record is not checked after it was read
     -DNO_INTENT         the writer says what it overwrites only when it has done so
     -DCOUNT_OVERRUNS    an overrun counts as one record lost, instead of by the numbers
*/
#define PLACES 2
#define RECORDS 6
#define BUFFER 5

byte number[PLACES];
byte payload[PLACES];
byte intent = 0;
byte tail = 0;
byte latest = 0;

mtype = { NUMBER, PAYLOAD, INTENT, TAIL, LATEST };
chan stores = [BUFFER] of { mtype, byte, byte };

active proctype drain() {
  mtype what;
  byte at, value;
end:
  do
  :: atomic {
      stores ? what, at, value ->
      if
      :: what == NUMBER -> number[at] = value
      :: what == PAYLOAD -> payload[at] = value
      :: what == INTENT -> intent = value
      :: what == TAIL -> tail = value
      :: what == LATEST -> latest = value
      fi;
      what = NUMBER; at = 0; value = 0
    }
  od
}

active proctype writer() {
  byte next = 0;
  do
  :: next == RECORDS -> break
  :: next < RECORDS ->
#ifndef NO_INTENT
    stores ! INTENT, 0, next + 1;
#endif
    stores ! PAYLOAD, next % PLACES, next;
    stores ! NUMBER, next % PLACES, next;
#ifdef NO_INTENT
    stores ! INTENT, 0, next + 1;
#endif
    next++;
    stores ! LATEST, 0, next - 1;
    stores ! TAIL, 0, next
  od
}

#define still_there (intent - next <= PLACES)

active proctype reader() {
  byte next = 0, seen = 0, expected = 0, accepted = 0, lost = 0, n = 0, p = 0, l = 0;
  do
  :: expected == RECORDS -> break
  :: expected < RECORDS ->
    if
    :: next == seen -> seen = tail
    :: else
    fi;
    if
    :: next == seen ->
      /* Nothing new: wait for it. At the end the last record may have been got or be the latest one. */
      tail != seen
    :: else ->
      n = number[next % PLACES];
      if
      :: still_there ->
        p = payload[next % PLACES];
#ifndef NO_SECOND_CHECK
        if
        :: still_there -> skip
        :: else -> goto overrun
        fi;
#endif
        assert(n == next && p == n);
        assert(n >= expected && n < tail);
#ifndef COUNT_OVERRUNS
        lost = lost + n - expected;
#endif
        expected = n + 1;
        accepted++;
        next = next + 1;
        assert(accepted + lost == expected)
      :: else ->
overrun:
#ifdef COUNT_OVERRUNS
        lost++;
#endif
        l = latest;
        seen = tail;
        if
        :: l < seen -> assert(l >= next); next = l
        :: else  /* just being published: as it was, and look again */
        fi
      fi
    fi
  od;
  assert(accepted + lost == RECORDS)
}
