"""Step 1: publish two messages. Nobody has to listen: they wait in the queue."""

from rabbit import MessageQueue

with MessageQueue("my_queue") as queue:
    queue.publish("hello")
    queue.publish("world")
