"""Train, quantize, evaluate, bench and compare: functions from run to run."""
