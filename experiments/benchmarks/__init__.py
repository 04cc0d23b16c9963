"""Times of parts of the library against plain solutions and peers, in pairs within one run."""
