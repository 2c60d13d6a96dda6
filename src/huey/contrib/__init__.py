"""Import paths of 3.x. These modules only re-export names."""
