"""What all objects of the driver share: ids, events, closing, pausing and checks of arguments."""
