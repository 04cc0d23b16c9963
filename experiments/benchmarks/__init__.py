"""How fast loopjax is: its parts, and a whole run, against peers and against the machine."""
