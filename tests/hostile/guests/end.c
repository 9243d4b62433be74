/* Ends at once: what is left of it when its headers are broken? */
int main(void) { return 42; }
