"""Transfer functions of the microscope, in two and three dimensions."""
