before() { living; }
after() { healthy; }
