// A library needs a source; this one is there for the precompiled headers.
