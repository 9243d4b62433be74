/* Does nothing: what a container costs by itself. */
int main(void) { return 0; }
