"""The API for AMQP clients: requests from a queue, answers to reply queues, events on an exchange (docs/adr/0019).

intake.py     reads the queue of requests, acknowledges                frames.py     what the decoder must not see
outlet.py     publishes, each message confirmed by the broker          topology.py   exchanges and queues
request.py    from a message to a request                              routes.py     what routing keys name
desk.py       asks the gateway, answers                                ends.py       tells the ends of jobs
feed.py       tells events                                             server.py     all of it, started and stopped
"""
