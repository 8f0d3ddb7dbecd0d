"""Clock, deadlines, sockets and signatures; imports nothing of ours."""
