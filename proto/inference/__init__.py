"""The Open Inference Protocol, version 2, with the model configuration and statistics that its clients ask for."""
