"""Clock, deadlines, sockets, HTTP and signatures; imports nothing of ours."""
