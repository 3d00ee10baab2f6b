"""The fleet as people see it: its hosts, its queue, its GPUs at this moment. It changes nothing."""
