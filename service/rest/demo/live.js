export class Live { constructor(){} get running(){return false;} stop(){} async start(){} }
