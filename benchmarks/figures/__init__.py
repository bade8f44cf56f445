"""
The figures: what wirewitness costs, against controls measured in the same run.

Each figure runs in a process of its own, for OpenTelemetry's providers can be set once in a process, and none of the
figures may weigh on another.
"""
