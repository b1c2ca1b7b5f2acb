declare module "*.css" {}
declare module "*.gz" {
  const url: string;
  export default url;
}
